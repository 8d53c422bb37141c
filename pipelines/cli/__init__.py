"""The command line `momentrank`.

commands.py   one function per command
console.py    what commands print
tune.py       searches ranker settings on past slices
init.py       drafts a project file from sample logs
"""
