"""What we use of Kafka: options, admin, consumer and publisher, lag, dead letters."""
