"""The retained log as a whole: verify, retrain, export, publish again, the dead-letter queue, upgrade."""
