"""The audit: what is in effect, what was learned from it, and what stands in the way, from the system itself.

`reading` reads topics to their end, `disk` what lies in the data directory, `collect` brings all sources together;
`tiers` and `pairs` make figures of them and `findings` a judgement, purely; `document` lays them out, and `terminal`,
`markdown` and `page` show that; `explain` follows one experience.
"""
