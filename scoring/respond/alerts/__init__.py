"""Alerts: what of a run somebody should act on, told once, until it is gone. A teller: a `Story` in, `Message`s out.

`rules` say what is wrong with a run, `course` (pure) what becomes of an alert from run to run (fires, hidden, acknowledged,
escalated, gone), `wording` how it is told. State stands in `<workspace>/alerts`. `notify` is the door to apprise.
"""
