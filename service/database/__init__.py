"""The database: connecting, migrations, logins, partitions, what its errors mean."""
