"""A room's pages in the console: what happened there and whether it proves itself, who is in it, and acting in it.

`timeline`, `people` and `state` are for looking, `acting` is for doing; what can be done is the table in `actions`.
Nothing here writes by itself: every action is one of the verbs of `federation.acting_in_rooms`.
"""
