"""Raw results of trackers as they are published: folders and archives, names, rows, formats."""
