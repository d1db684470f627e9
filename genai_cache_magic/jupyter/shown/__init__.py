"""What stands below a cell: badge, tables, reports and the words they share."""
