"""Small SVG charts. Colours are classes, so that the page's theme decides them; every chart says in words what it shows."""
