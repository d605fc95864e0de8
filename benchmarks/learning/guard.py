"""Misfit in units of counting noise of engine, network and truth: `guard.py WEIGHTS`."""
from apply import *
m=load_net(sys.argv[1])
for ov in (.6,.3):
  for ph in (1e3,1e4):
    for o,p in MAIN:
        s,pr,O,t=engine_for(o,p,ov,ph)
        G,W,M,r=measure(pr,O); O1=step(m,O,G,W,M); r1=measure(pr,O1)[3]
        T=truth_on_canvas(pr,np.asarray(s.object)); rt=measure(pr,T.astype(np.complex64))[3]; a=area_of(pr)
        print(f'{o:8s}{ov} {ph:g} misfit/noise engine {r.mean():.3f} net {r1.mean():.3f} truth {rt.mean():.3f} | detail {detail_db(O1,T,a,W)-detail_db(O,T,a,W):+.2f}',flush=True)
