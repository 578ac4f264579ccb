"""What other systems log, as our events: one small pure file for each format, and what they share.

`messages` reads the content of messages in whatever dialect, `files` gives the records of files, `found` says what a
format finds in them, `events` makes events of that, `registry` lists the formats, own ones and others' (entry points).
Nothing here publishes: `streams.history.importing` does.
"""
