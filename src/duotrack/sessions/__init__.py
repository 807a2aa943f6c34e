"""Sessions: a network with its weights on some runtime, crops in, maps out. They know no video and hold no state."""
