"""What must hold in every simulated world, judged from the venue and the journal."""
