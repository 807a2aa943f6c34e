"""Which file belongs to which sequence: folders and archives of raw results, as trackers and their authors name files.

There is one prefix and one suffix for all sequences, nearly always empty or the name of the tracker. Names of
sequences end in names of others (``car``, ``redcar``) and may lie in folders of their own; a file for a sequence must
never be found by its likeness to another.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

Files = Mapping[str, Path | bytes]
"""Files by their path below the folder or in the archive: where they lie on disk, or what they hold."""


def list_files(path: Path) -> Files:
    """What lies below a folder, in an archive or in a folder of an archive (``results.zip/APFNet``), sorted by path.

    Hidden files, and of archives all but text, are left out.

    Raises:
        OSError: if there is no such path.
        ArchiveError: if an archive is refused.
        ValueError: if it is the file of one sequence.
    """
    from duotrack.evaluation.raw.archives import read_archive  # late: a tenth of what importing the evaluation costs

    if path.is_dir():
        below = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        files = {file.relative_to(path).as_posix(): file for file in below}
        return {key: files[key] for key in sorted(files) if not re.search(r"(^|/)(\.|__MACOSX/)", key)}
    if path.is_file():
        if path.suffix.lower() == ".txt":
            raise ValueError(f"{path} is a text file: give the folder or archive that holds those of all sequences")
        return read_archive(path)
    for archive in path.parents:
        if archive.is_file():
            folder = f"{path.relative_to(archive).as_posix()}/"
            inside = {key: data for key, data in read_archive(archive).items() if key.startswith(folder)}
            if not inside:
                raise FileNotFoundError(f"{archive} has no text files in a folder {folder}")
            return {key.removeprefix(folder): data for key, data in inside.items()}
    raise FileNotFoundError(f"{path} does not exist: give the folder or archive with the results of one tracker")


@dataclass(frozen=True)
class Match:
    """Where the results lie.

    Attributes:
        tracks: sequence to the file of its boxes, in the order of the names.
        times: sequence to the file of its times.
        others: text files that were taken for nothing.
        rivals: sequences that have more than one result, with the files; then all else is in doubt.
    """

    tracks: dict[str, str]
    times: dict[str, str]
    others: list[str]
    rivals: list[str]


def match(files: Files, names: Sequence[str]) -> Match:
    """Finds the prefix and the suffix by which most sequences have a file, and the files that are named so.

    A prefix ends, and a suffix begins, with what is neither letter nor digit: ``redcar`` is no ``car`` with a prefix.
    """
    texts = [file for file in files if file.lower().endswith(".txt") and not _stem(file).endswith("_time")]
    named: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for file in texts:
        for name, prefix, suffix in _readings(_stem(file), names):
            named[prefix, suffix][name].append(file)
    if not named:
        return Match({}, {}, texts, [])

    prefix, suffix = chosen = max(named, key=lambda affixes: (len(named[affixes]), -len("".join(affixes))))
    tracks = {name: named[chosen][name][0] for name in names if name in named[chosen]}
    rivals = [f"{name} ({' and '.join(found)})" for name, found in named[chosen].items() if len(found) > 1]
    used = {file for found in named[chosen].values() for file in found}
    for affixes, found_by_name in named.items():
        # Another prefix is another tracker, another suffix another run; but NAME_scores.txt beside NAME.txt is neither.
        if affixes != chosen and (affixes[0] != prefix or suffix):
            free = {name: [file for file in found if file not in used] for name, found in found_by_name.items()}
            again = [f"{name} ({tracks[name]} and {free[name][0]})" for name in free if free[name] and name in tracks]
            rivals += again if 2 * len(again) >= len(tracks) else []

    times: dict[str, str] = {}
    for name, file in tracks.items():
        place = PurePosixPath(file)
        candidates = f"{prefix}{name}_time.txt", f"{place.stem}_time.txt", f"{place.stem}.json"
        beside = [str(place.with_name(candidate)) for candidate in candidates]
        if present := [candidate for candidate in beside if candidate in files]:
            times[name] = present[0]
    return Match(tracks, times, [file for file in texts if file not in used], rivals)


def misspelt(missing: Sequence[str], matched: Match) -> dict[str, str]:
    """Sequences without a file for which there is one that differs in case or punctuation only."""

    def plain(text: str) -> str:
        return re.sub(r"[\W_]", "", text.casefold())

    prefix = next((_stem(file).rpartition(name)[0] for name, file in matched.tracks.items()), "")
    others = {plain(_stem(file)): file for file in matched.others}
    return {name: others[plain(prefix + name)] for name in missing if plain(prefix + name) in others}


def _readings(stem: str, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The sequences that a file may be named after, with the prefix and the suffix it would have then."""
    for name in names:
        if name in stem:
            for found in re.finditer(re.escape(name), stem):
                prefix, suffix = stem[: found.start()], stem[found.end() :]
                if not prefix[-1:].isalnum() and not suffix[:1].isalnum():
                    yield name, prefix, suffix


def _stem(file: str) -> str:
    return PurePosixPath(file).stem
