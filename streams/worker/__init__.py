"""The roles' composition root, and the process that runs them: web, page, status, observer, watchdog."""
