"""Files of events: layouts and formats, compression, and the directories that hold them."""
