"""Two hops on bare aiokafka, with the records that durable state needs; see `two_hops`."""

from __future__ import annotations

from benchmarks.peers.two_hops import main

if __name__ == "__main__":
    main(acknowledged=True)
