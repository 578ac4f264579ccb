"""The worker's web page: `index.html`, `login.html`, `page.css` over `base.css`, `page.js` and `dom.js`.

`serving` sends them, and the pages about one thing that `training` and `events` make. No build step and nothing from
elsewhere: the page lives on `/events`, `/audit.json` and the charts.
"""
