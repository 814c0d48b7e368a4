"""Keys on paper: pages to be printed, and reading them back from a scan, a photo or typed lines."""
