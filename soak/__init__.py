"""`make soak MINUTES=n`: complete servers under random traffic and random faults, and what is left of it all compared.

Three servers host rooms for one another. Their users talk, come and go, while the servers' processes and services are
killed, stopped, frozen and started again. Then all faults end, the servers drain, and their databases are read: what
was accepted must be in its room's line once, every copy of the line must be that line, and nothing may be left
waiting.

What will be done and what will break is a pure function of the seed (`soak.schedule`), which is printed. When a
process comes to it is not: a seed repeats the plan, not the interleaving.

| module | what it does |
|---|---|
| `schedule` | plans the actions and the faults |
| `company` | the servers, their users and rooms |
| `lanes` | acts as users do, by the servers' own commands |
| `faults` | breaks things and mends them |
| `ledger` | remembers what each action was answered |
| `reckoning` | holds the answers against the lines; `tests.scenarios.verdict` compares the servers |
| `report` | tells what was found |
| `run` | one soak from start to end |
"""
