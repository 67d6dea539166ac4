"""One page about a target: how far its migration is, whether it may switch, and how the two models compare.

facts.py and evaluations.py say what is on the page, collect.py reads it from the database, plots.py draws, page.py puts
the page together. Nothing here changes anything, and nothing asks a provider.
"""
