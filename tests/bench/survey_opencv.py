"""Stub."""


def compare(nets): ...
