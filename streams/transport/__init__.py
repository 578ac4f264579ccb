"""Record batches for Faust: a transport that hands an agent up to N raw records of one partition at a time.

- `batch`: what an agent receives.
- `options`: what the app tells the transport.
- `offsets`: the commit rule, without any input or output.
- `fetching`: taking fetched runs of records out of aiokafka, on the app's loop.
- `driver`: the Faust transport, registered as `kafkabatch://` under the entry points `faust.transports`.
"""

from streams.transport.batch import RecordBatch
from streams.transport.options import TransportOptions

__all__ = ["RecordBatch", "TransportOptions"]
