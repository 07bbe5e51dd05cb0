"""The doctor: looks at every clip of a source, says what is wrong, and writes a cleaned copy."""
