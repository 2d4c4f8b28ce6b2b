"""Events that ask for a model to be trained again, or say that its feed is broken. A teller: a `Story` in, `Message`s out.

`judged` says of each partition whether it drifted or is broken, `decide` (pure) whether that is a reason to ask, `events` makes the
CloudEvent: the door to its library. State stands in `<workspace>/retraining`, events in `<workspace>/events`. We train nothing.
"""
