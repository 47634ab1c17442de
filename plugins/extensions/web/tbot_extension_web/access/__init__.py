"""Who may come in: accounts, passwords, logins and their sessions."""
