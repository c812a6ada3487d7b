"""Networks, in; what they are made of and how two differ, as data and as a page, out."""
