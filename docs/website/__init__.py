"""The site: what is assembled from the repository before Sphinx reads it. Read `pages` first."""
