"""Any Postgres that is recorded to: in comes its URL, out come connections with this version's schema.

Where it is (`address`), how it is reached (`connect`), its schema (`migrate`), logins (`logins`) and days (`partitions`), what its
errors mean (`failures`), what it can hold (`text`), and which model versions it knows (`known`).
"""
