"""The embedded broker of `up`, `broker` and the tests.

`embedded` starts and stops one and is what others use; `kafka` lays out Apache Kafka (`jars` fetches it,
`java` finds a runtime, `lock` renews the pinned jars), `lite` the fallback for where it cannot be fetched.
"""
