"""Data: clip sets, files, preprocessing, and a data set made by code."""
