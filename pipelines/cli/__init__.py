"""The command line `momentrank`.

commands.py   one function per command
console.py    what commands print
init.py       drafts a project file from sample logs
"""
