"""The worker's web page: `index.html`, `login.html`, `page.css` over `base.css`, and `page.js`; `serving` sends them.

No build step and nothing from elsewhere: the page lives on `/events`, `/audit.json` and `/explain`.
"""
