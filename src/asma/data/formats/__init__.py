"""File formats of clips, one module each: what it finds at a path, how it reads it, and how it writes it.

A module `<format>` has `recognise(path)`, a phrase of what was found or None, which never raises; `open_source(path)`,
the file or folder as an `asma.data.source.Source`; and, where the format is written, `write(clips, header, path)`.
Nothing here runs code from a file: pickles go through `_unpickle`, arrays through `_npy`.
"""
