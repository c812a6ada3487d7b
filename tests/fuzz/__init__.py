"""Files that lie: every mutant of a good file, and every structure that could be in one, is read right or refused in a line.

`python -m tests.fuzz --count 100000` tries that many of every kind. `kinds.py` says what a kind is, how it is read and what is
done with it; `cutting.py` changes bytes, `structures.py` and `messages.py` build what may lie in a file (hypothesis); `judging.py`
says what came of one; `corpus/KIND/NAME/` holds the small files that once escaped.
"""
