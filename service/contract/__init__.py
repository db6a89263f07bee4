"""What more than one folder speaks: frozen values and Protocols.

Nothing comes in or goes out here. A signature says what a version takes and answers, the catalog what an engine serves, a call what
goes to an engine and comes back. What several folders must read alike is decided here once: a head (`heads`), an outlier
(`outlier`), the error of a version that cannot answer (`unavailable`).
"""
