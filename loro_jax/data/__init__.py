"""Prior data: episodes as files, and as a program takes them."""
