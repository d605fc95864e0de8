from evalset import *
for o,p in (('coins','ring'),('cell','wide'),('camera','ring')):
    for ov in (.3,.6):
        s,pr,O,t=engine_for(o,p,ov,1e4); n=options(pr).passes*3
        s0=scores(pr,O,s); s,pr,O3,t3=engine_for(o,p,ov,1e4,n); s1=scores(pr,O3,s)
        print(o,ov,'passes',n,'t',round(t,1),round(t3,1),{k:f'{s0[k]:.2f}{s1[k]-s0[k]:+.2f}' for k in s0},flush=True)
