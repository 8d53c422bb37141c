"""The command `momentrank`.

commands.py   one function a command
console.py    tables that commands print
init.py       a project file from sample logs
"""
