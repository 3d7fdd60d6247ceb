"""`aicn bench churn`: streams through a gateway while its workers are killed, frozen and slowed, and what their clients saw.

trial ─ fleet     (gateway and workers as processes, the scripted endpoint in this one)
      ├ faults    (what is done to whom and when, by a seed)
      ├ streams   (the clients)
      └ report    (figures, and what is to be reached)
"""
