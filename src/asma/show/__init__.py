"""One clip to look at: as a page that plays, as a moving GIF, or as a strip of frames."""
