"""Hostile files, built by code: none runs anything, reads elsewhere, takes memory that it only claims, or ends in more than
one line."""
