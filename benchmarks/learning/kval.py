from apply import *
def run_k(netfile,only=None):
    m=load_net(netfile); R={}
    for f in sorted(Path('datak').glob('*.npz')):
        z=np.load(f)
        if only is not None and bool(z['test'])!=only: continue
        O,W,T=z['Of'],z['W'],z['T']; h,w=O.shape; a=(slice(36,h-36),slice(36,w-36))
        O1=step(m,O,z['Gf'],W,z['Mf'])
        def sc(O):
            u=slow_phase(O,T,W,10.); q=(O*u.conj())[a]; t=T[a]; r=(np.abs(q)*np.abs(t)).sum()/(np.abs(t)**2).sum()
            return -10*np.log10([np.mean(np.abs(q/r-t)**2),np.mean((np.abs(q)/r-np.abs(t))**2),np.mean(np.angle(q*t.conj())**2)])
        R.setdefault((float(z['ov']),float(z['ph'])),[]).append(np.r_[sc(O1)-sc(O),sc(O)])
    for k,v in R.items(): print(k,'gain detail/amp/phase',np.median(v,0).round(2)[:3],'from',np.median(v,0).round(1)[3:],flush=True)
if __name__=='__main__': run_k(sys.argv[1],True if len(sys.argv)>2 else None)
