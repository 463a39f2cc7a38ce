"""Prior data as files: episodes, checked and hashed."""
