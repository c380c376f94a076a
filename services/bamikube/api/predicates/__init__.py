"""Pure questions about objects that several services ask alike."""
