"""Views of one finished run: report.json to terminal, HTML, JUnit, Markdown, badge, diff and matrix."""
