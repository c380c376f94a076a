"""What every service is built on: clock, chance, tasks, queues, options, logs, metrics, health, HTTP."""
