"""The report: one HTML file about one run or several, with everything in it."""
