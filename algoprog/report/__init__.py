"""What people read: tables on a terminal, figures, and one HTML page."""
