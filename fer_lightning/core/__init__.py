"""What every room needs: errors, files, processes, progress, and the objects that rooms hand to one another."""
