"""Put a signed package behind an endpoint's address, beside the one that serves, then switch.

The new package is verified, started and asked its golden examples before any client meets it. When
one of these fails the old one stays, and the reason is told. Deploying the previous package is a
rollback: there is no other way back, and none is needed.

`local` is a server process on this machine behind a stable address, `docker` the same in containers
(`blue_green` tells the story of both), `sagemaker` a real-time endpoint of AWS.
"""
