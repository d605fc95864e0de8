from apply import *
m=[load_net(f) for f in ('a1_snap.pt','a2.pt')]
for ph in (1e3,1e4):
    s,pr,O,t=engine_for('lattice','A',.6,ph); G,W,M,r=measure(pr,O); O1=np.mean([step(q,O,G,W,M) for q in m],0)
    T=truth_on_canvas(pr,np.asarray(s.object)); P=9.; h,w=np.asarray(s.object).shape
    off=np.rint(np.asarray(pr.layout.origin)).astype(int)
    def at(X,i,j):
        y=int(round(h/2+i*P*.866))+off[0]; x=int(round(w/2+j*P+(i%2)*P/2))+off[1]; return np.abs(X[y-1:y+2,x-1:x+2]).mean()/np.abs(X).mean()*np.abs(T).mean()
    nb=[(2,2),(2,4),(1,3),(3,3),(0,0),(4,4)]
    for n,X in (('truth',T),('engine',O),('net',O1)): print(f'{ph:g}',n,'missing site %.2f'%at(X,2,3),'other sites %.2f'%np.mean([at(X,*q) for q in nb]))
