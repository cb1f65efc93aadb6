"""The dashboard: a sweep watched live, two configurations tried side by side, the run told as a show.

Why it may be closed at any time: it only reads run folders, and what it starts runs in a process of its own.
"""
