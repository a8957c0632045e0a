"""Tables, figures and pages that all reports are made of."""
