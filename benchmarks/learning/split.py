"""Errors of the engine in three bands, phase and amplitude, and counting noise."""
from evalset import *
print('rms error of engine: phase (mrad) and amplitude (1e-3) in three bands: slow (>12 px sigma... periods > 40 px), middle (8-40 px), fine (<8 px); naive Fisher bound per component')
for ov in OVERLAPS:
    for ph in DOSES:
        R=[]
        for o,p in MAIN:
            f=E/f'eng_{o}_{p}_{ov}_{ph:g}_None_.npz'
            if not f.exists(): continue
            s,pr,O,t=engine_for(o,p,ov,ph)
            c=compare(O,pr.layout.origin,np.asarray(s.object),s.object_origin,s.positions,margin=4,pistons=ov<=0)
            e=np.angle(c.result*c.truth.conj()); a=np.abs(c.result)/c.amplitude_ratio-np.abs(c.truth)
            W=measure_w(pr)[area_of(pr)]
            def bands(x):
                g=ndimage.gaussian_filter; s1=g(x,7.); s2=g(x,1.5)
                return [np.std(s1)*1e3,np.std(s2-s1)*1e3,np.std(x-s2)*1e3]
            R.append(bands(e)+bands(a)+[1e3*np.sqrt(np.mean(1/(2*W)))])
        print(ov,f'{ph:g}','phase slow %.0f mid %.0f fine %.0f | amp slow %.0f mid %.0f fine %.0f | Fisher %.0f'%tuple(np.median(R,0)),flush=True)
