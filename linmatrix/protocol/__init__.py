"""The Linearized Matrix draft as Python: pure functions of their arguments.

No Django, no I/O, no clock, no randomness. Clock, keys and state are arguments, so that every rule
can be tested, replayed and fuzzed on its own. Modules follow the draft's sections.
"""
